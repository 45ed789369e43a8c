"""`accelerate launch tuning/run.py`: search over a run's configuration; `--help` lists the options."""

from training.commands.common import launched
from tuning.console import tune

if __name__ == "__main__":
    launched(tune)
