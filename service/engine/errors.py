"""What the engine refuses or fails with. The kinds are chosen by what the caller must do next."""


class EngineError(Exception):
    """Base of everything that crosses the engine's border."""


class Invalid(EngineError):
    """The request contradicts what is stored (realm, simprint width): the caller changes the request."""


class NotFound(EngineError):
    """No such index or asset."""


class Conflict(EngineError):
    """The name is taken."""


class NoSpace(EngineError):
    """Too little room on the disk: nothing was stored; free space and send the request again."""


class Busy(EngineError):
    """Not now: the engine is full, not open yet or closing. Nothing was done; send the request again."""


class Unwritable(EngineError):
    """A file cannot be written or read for a reason other than space: an operator must look at limits and permissions."""


class Defect(EngineError):
    """A request met a defect of ours: nothing of it was done."""


class Damaged(EngineError):
    """A file that cannot be rebuilt from another is damaged, or not ours: an operator must look."""


class Locked(EngineError):
    """Another process owns the data directory."""


class Fatal(EngineError):
    """A commit failed for a reason other than space: the process must end and start again."""


class Unfit(EngineError):
    """An element of the request does not fit what is stored (a simprint of another width): it is refused before anything is stored.

    `place` leads to it from the request: names of members and positions.
    """

    def __init__(self, message: str, place: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.place = place
