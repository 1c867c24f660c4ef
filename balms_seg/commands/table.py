"""The commands of `balms-seg`, in the order in which its help lists them.

A new command is a line here and a file in this folder with

- a docstring, which is its help: what it does in the first line, examples with `balms-seg NAME`
  below,
- `add_arguments(parser)`,
- `run(args)`, which raises what is wrong as an error that says what to do.

Where it writes is an argument of type `outputs.output_path`, which says what is replaced.
At the top such a file imports nothing that needs torch, so that help answers at once.
"""

# Words on the command line -> module.
COMMANDS = {
    "train": "train",
    "evaluate": "evaluate",
    "compare": "compare",
    "compare-methods": "compare_methods",
    "report": "report",
    "calibrate": "calibrate",
    "thresholds": "thresholds",
    "predict": "predict",
    "demo": "demo",
    "statistics": "statistics",
    "split": "split",
    "convert": "convert",
    "visualize data": "visualize_data",
    "visualize results": "visualize_results",
    "glyphs": "glyphs",
    "subset": "subset",
    "features": "features",
    "install-detectron2": "install_detectron2",
}
