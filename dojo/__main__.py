"""``python -m dojo``: for launchers that start a module, such as torchrun."""

from dojo.cli import main

if __name__ == "__main__":
    main()
