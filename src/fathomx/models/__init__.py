"""Networks ready to train."""

from fathomx.models.mlp import mlp as mlp
from fathomx.models.mlp import residual_mlp as residual_mlp
from fathomx.models.residual_cnn import residual_cnn as residual_cnn
from fathomx.models.resnet import resnet as resnet
from fathomx.models.transformer import transformer as transformer
from fathomx.models.vgg import vgg as vgg
from fathomx.models.wrapping import wrap as wrap
