"""Records that are made in bulk are the same as those of their own constructors."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from ual_registry.registry.making import maker
from ual_registry.registry.views import LineageEdge, Measurement

MEASURED = Measurement(metric="accuracy", value=0.5, low=None, high=0.75, sample_count=10, arm="adapter")


def test_a_record_of_values_in_the_order_of_its_fields_is_that_of_its_constructor() -> None:
    made = maker(Measurement)("accuracy", 0.5, None, 0.75, 10, "adapter")
    assert (type(made), made, hash(made), repr(made)) == (Measurement, MEASURED, hash(MEASURED), repr(MEASURED))
    assert pickle.loads(pickle.dumps(made)) == MEASURED
    assert dataclasses.replace(made, value=1.0) == dataclasses.replace(MEASURED, value=1.0)


def test_a_record_that_is_made_so_cannot_be_changed_either() -> None:
    made = maker(LineageEdge)("a", "b", "merged_from")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.child = "c"  # type: ignore[misc]
    assert made < LineageEdge(child="a", parent="b", relation="projected_from")


@pytest.mark.parametrize("values", [("a", "b"), ("a", "b", "c", "d")])
def test_a_record_takes_a_value_for_every_field(values: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match="argument"):
        maker(LineageEdge)(*values)


def test_only_a_class_with_slots_can_be_made_so() -> None:
    @dataclasses.dataclass(frozen=True)
    class Loose:
        part: int

    with pytest.raises(TypeError, match="layout differs"):
        maker(Loose)(1)
