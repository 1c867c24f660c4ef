"""The commands of `balms-seg`: one file a command, listed in `table.py`."""
