"""The one error a user can cause and mend."""

__all__ = ["InputError", "MissingExtraError", "PeerError"]


class InputError(ValueError):
    """A mistake in the user's input, told in one sentence that names the value and the remedy.

    The command line prints the sentence and ends with exit code 2.
    """


class MissingExtraError(ImportError):
    """An optional dependency is absent; the sentence names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'torchlpr[{extra}]'",
            name=package,
        )


class PeerError(RuntimeError):
    """Another of the processes that share the work failed, and this one stops with it."""
