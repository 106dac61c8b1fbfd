from .named import RECIPES as RECIPES
from .named import find_recipe as find_recipe
from .override import change as change
from .override import override as override
from .recipe import Recipe as Recipe
from .recipe import from_dict as from_dict
from .recipe import to_dict as to_dict
