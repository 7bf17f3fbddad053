"""The one exception that means: the input is wrong, here is what to do."""


class InputError(ValueError):
    """Bad input, said in one clear line: what, where, the way out. The command line prints it and exits 2."""


class Interrupted(InputError):
    """Not the input's fault: what is done is kept, and the same command goes on from there."""
