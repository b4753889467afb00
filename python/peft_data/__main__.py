import sys

from peft_data.cli import main

sys.exit(main())
