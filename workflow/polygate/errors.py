"""The one exception that means "the user can mend this"."""


class PolygateError(Exception):
    """One clear line: what is wrong, where it is, and what to do about it.

    The command line prints it as it stands, without a traceback, and exits with 1. Every failure that a user
    can cause (a wrong setting, a truncated file, a missing translation, a full disk) is raised as this type;
    any other exception is a defect of ours and keeps its traceback.
    """

    def __init__(self, what: str, *, where: object = None, do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        line = what.strip().rstrip(".")
        if where is not None:
            line += f", in {where}"
        if do:
            line += f": {do.strip().rstrip('.')}"
        super().__init__(" ".join(line.split()))
