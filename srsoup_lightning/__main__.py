"""``python -m srsoup_lightning`` is ``srsoup``."""

from srsoup_lightning.cli.main import console

if __name__ == "__main__":
    console()
