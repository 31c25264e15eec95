"""Answers of the API server as values, whatever tenants have stored in them."""

import orjson
import pytest

from retinue.kube.replies import KEPT_DEPTH, decode

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("levels", [300, 1000, 5000])
def test_an_object_that_is_too_deep_leaves_the_others_of_its_list_alone(levels: int) -> None:
    deep = '{"a":' * levels + "[1]" + "}" * levels
    found = decode(f'{{"items":[{{"x":"}}]\\"[{{","y":{deep},"z":[1,{{"q":2}}]}},{{"n":3}}]}}'.encode())
    first, second = found["items"]
    assert (first["x"], first["z"], second) == ('}]"[{', [1, {"q": 2}], {"n": 3})
    kept, value = 0, first["y"]
    while value is not None:
        kept, value = kept + 1, value["a"]
    assert kept == KEPT_DEPTH - 3, "items, its list and the object itself are levels as well"


@pytest.mark.parametrize("data", [b'{"a":', b"<html>no API server</html>", b"[" * 5000])
def test_what_is_no_json_stays_an_error(data: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(data)
