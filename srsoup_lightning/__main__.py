"""``python -m srsoup_lightning`` is ``srsoup``."""

from srsoup_lightning.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
