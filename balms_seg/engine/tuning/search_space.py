"""What `calibrate` tries and by what it may choose."""

# Constants that are tried of each method.
STRENGTHS = {
    "norcal": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "logit_adjustment": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "fracal": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "tau_norm": (0.25, 0.5, 0.75, 1.0),
}
METHODS = (*STRENGTHS, "group_temperature")
METRICS = ("AP", "APr", "APc", "APf", "ECE", "ECEr", "ECEc", "ECEf")
# How frequent classes are where an image classifier's constants are to hold; default: the first.
CLASS_MIXES = ("even", "held-out")
