"""Errors a person can act on, with the exit codes of sysexits.h."""

USAGE = 64
BAD_INPUT = 65
IO_ERROR = 74


class DataError(Exception):
    """Stops the program. `text` says what, where, why and what to do next."""

    def __init__(self, text, code=BAD_INPUT):
        super().__init__(text)
        self.code = code
