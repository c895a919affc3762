"""Networks ready to train."""

from fathomx.models.bidirectional import bidirectional as bidirectional
from fathomx.models.bidirectional import with_precisions as with_precisions
from fathomx.models.decoder import decoder as decoder
from fathomx.models.decoder import residual_decoder as residual_decoder
from fathomx.models.decoder import with_encoder as with_encoder
from fathomx.models.feedbacks import with_feedbacks as with_feedbacks
from fathomx.models.mlp import mlp as mlp
from fathomx.models.mlp import residual_mlp as residual_mlp
from fathomx.models.residual_cnn import residual_cnn as residual_cnn
from fathomx.models.resnet import resnet as resnet
from fathomx.models.temporal import recurrent as recurrent
from fathomx.models.temporal import state_space as state_space
from fathomx.models.transformer import transformer as transformer
from fathomx.models.vgg import vgg as vgg
from fathomx.models.wrapping import wrap as wrap
