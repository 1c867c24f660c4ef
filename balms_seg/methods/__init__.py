"""Classification methods by name, for boxes and whole images; a new one is one file and a line."""

from balms_seg.methods.bags import BAGS
from balms_seg.methods.balanced_sigmoid import BalancedSigmoid
from balms_seg.methods.balanced_softmax import BalancedSoftmax
from balms_seg.methods.base import Method
from balms_seg.methods.class_balanced import CBLoss, ClassBalancedWeighting
from balms_seg.methods.class_weights import ClassWeights
from balms_seg.methods.context import LossContext, TrainingProgress
from balms_seg.methods.droploss import DropLoss
from balms_seg.methods.ecm import ECM
from balms_seg.methods.efl import EFL
from balms_seg.methods.eql import EQL
from balms_seg.methods.eqlv2 import EQLv2
from balms_seg.methods.fcbl import FCBL
from balms_seg.methods.feature_balanced import FeatureBalanced
from balms_seg.methods.federated import Federated
from balms_seg.methods.focal import Focal
from balms_seg.methods.gol import GOL
from balms_seg.methods.ldam import LDAM, LDAMDRW
from balms_seg.methods.logit_adjustment import LogitAdjustment, PostHocLogitAdjustment
from balms_seg.methods.logn import LogN
from balms_seg.methods.registry import (
    METHODS,
    build_method,
    find_method,
    load_entry_points,
    register,
    settings_from,
)
from balms_seg.methods.seesaw import Seesaw
from balms_seg.methods.settings import MethodSettings, SettingError
from balms_seg.methods.sigmoid import Sigmoid
from balms_seg.methods.softmax import Softmax

METHODS |= {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "balanced_softmax": BalancedSoftmax,
    "balanced_sigmoid": BalancedSigmoid,
    "logit_adjustment": LogitAdjustment,
    "post_hoc_logit_adjustment": PostHocLogitAdjustment,
    "focal": Focal,
    "class_balanced_weighting": ClassBalancedWeighting,
    "cb_loss": CBLoss,
    "ldam": LDAM,
    "ldam_drw": LDAMDRW,
    "feature_balanced": FeatureBalanced,
    "seesaw": Seesaw,
    "eqlv2": EQLv2,
    "class_weights": ClassWeights,
    "federated": Federated,
    "eql": EQL,
    "droploss": DropLoss,
    "gol": GOL,
    "efl": EFL,
    "ecm": ECM,
    "fcbl": FCBL,
    "bags": BAGS,
    "logn": LogN,
}

__all__ = [
    "METHODS",
    "LossContext",
    "Method",
    "MethodSettings",
    "SettingError",
    "TrainingProgress",
    "build_method",
    "find_method",
    "load_entry_points",
    "register",
    "settings_from",
]
