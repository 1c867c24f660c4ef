"""`python -m balms_seg` is `balms-seg`; torchrun takes it so."""

from balms_seg.commands.command_line import main

if __name__ == "__main__":
    main()
