"""The one error of the testbed."""


class TestbedError(Exception):
    """Something of the machine or of a cluster is not as it must be; the text says what, why and what to do."""

    __test__ = False
