"""Layers that carry their own scaling, normalizations, pooling, activations by name."""

from fathomx.layers.activations import ACTIVATIONS as ACTIVATIONS
from fathomx.layers.activations import Activation as Activation
from fathomx.layers.activations import activation_function as activation_function
from fathomx.layers.activations import linear as linear
from fathomx.layers.convolution import Convolution as Convolution
from fathomx.layers.convolution import TransposedConvolution as TransposedConvolution
from fathomx.layers.convolution import average_pool as average_pool
from fathomx.layers.convolution import max_pool as max_pool
from fathomx.layers.joins import add as add
from fathomx.layers.normalization import BatchNorm as BatchNorm
from fathomx.layers.normalization import GroupNorm as GroupNorm
from fathomx.layers.normalization import LayerNorm as LayerNorm
from fathomx.layers.normalization import Normalization as Normalization
from fathomx.layers.scaled import Affine as Affine
from fathomx.layers.scaled import Bias as Bias
from fathomx.layers.scaled import Embedding as Embedding
from fathomx.layers.scaled import Linear as Linear
from fathomx.layers.scaled import ScaledWeight as ScaledWeight
