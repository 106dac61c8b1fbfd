from .animation import animate as animate
from .figures import draw_samples as draw_samples
from .figures import loss_curve as loss_curve
from .figures import picture_grid as picture_grid
from .figures import point_cloud as point_cloud
from .figures import save_figure as save_figure
from .figures import tile as tile
from .tables import format_table as format_table
