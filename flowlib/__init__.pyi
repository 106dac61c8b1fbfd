from .fields import Field as Field
from .fields import MixtureField as MixtureField
from .fields import Model as Model
from .guidance import ClassifierFreeGuidance as ClassifierFreeGuidance
from .guidance import EnergyGuidance as EnergyGuidance
from .likelihood import bits_per_dim as bits_per_dim
from .likelihood import dequantise as dequantise
from .likelihood import log_likelihood as log_likelihood
from .likelihood import sample_with_likelihood as sample_with_likelihood
from .losses import flow_matching_loss as flow_matching_loss
from .losses import optimal_transport as optimal_transport
from .losses import prediction_loss as prediction_loss
from .losses import score_matching_loss as score_matching_loss
from .paths import GaussianPath as GaussianPath
from .samplers import sample_ddim as sample_ddim
from .samplers import sample_ode as sample_ode
from .samplers import sample_sde as sample_sde
from .schedules import VE as VE
from .schedules import VP as VP
from .schedules import Cosine as Cosine
from .schedules import Linear as Linear
from .schedules import Schedule as Schedule
from .schedules import SquareRoot as SquareRoot
from .schedules import Trigonometric as Trigonometric
from .times import logit_normal_time as logit_normal_time
from .times import uniform_time as uniform_time

__version__: str
