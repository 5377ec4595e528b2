"""Named tuples that kernels receive by reference.

Numba passes a named tuple as its parts, and every array of one dimension as seven numbers. A
function with a tuple of a hundred arrays thus has seven hundred arguments. They are compiled for
every call and for every access to a field. A class that is declared `by_reference` is passed as one
pointer instead, to the place where the entry point from Python has put the tuple. A field is read
only when a kernel uses it. The kernels of the far-sighted planner's search took 79 s of processor
time to compile before, and 31 s after.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from numba.core import cgutils, imputils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)

NamedTupleClass = TypeVar("NamedTupleClass", bound=type)


class Reference(types.Type):
    """Numba's type of a pointer to a named tuple of a given type."""

    def __init__(self, target: Any) -> None:
        self.target = target
        # Numba writes this name wherever it calls a function, and the target's own name may have
        # kilobytes.
        digest = hashlib.sha256(f"{target.instance_class}{target}".encode()).hexdigest()[:12]
        super().__init__(name=f"{target.instance_class.__name__}_{digest}")

    @property
    def key(self) -> Any:
        """The value by which Numba compares two of these types."""
        return self.target


@register_model(Reference)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Reference) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.target).get_value_type().as_pointer())


def by_reference(named_tuple: NamedTupleClass) -> NamedTupleClass:
    """Declare a class of named tuples that kernels receive by reference.

    Kernels read the fields by name. They cannot unpack, return or replace such tuples. In a kernel
    that allocates, every access to an array changes its reference count. Where that takes
    noticeable time, read the array before a loop.
    """

    @typeof_impl.register(named_tuple)
    def _typeof(value: Any, context: Any) -> Reference:
        fields = [typeof_impl(each, context) for each in value]
        fields = [
            # kernels only read these arrays, so read-only and writable ones can be one type
            each.copy(readonly=False) if isinstance(each, types.Array) else each
            for each in fields
        ]
        return Reference(types.BaseTuple.from_types(fields, named_tuple))

    return named_tuple


@unbox(Reference)
def _unbox(typ: Reference, value: Any, c: Any) -> NativeValue:
    native = c.unbox(typ.target, value)
    slot = cgutils.alloca_once_value(c.builder, native.value)

    def cleanup() -> None:
        if native.cleanup is not None:
            native.cleanup()
        if c.context.enable_nrt:  # the entry point finds arrays in tuples, not behind pointers
            c.context.nrt.decref(c.builder, typ.target, native.value)

    return NativeValue(slot, is_error=native.is_error, cleanup=cleanup)


@infer_getattr
class _Fields(AttributeTemplate):
    key = Reference

    def generic_resolve(self, typ: Any, attr: str) -> types.Type | None:  # type: ignore[override]
        fields = typ.target.fields
        return typ.target.types[fields.index(attr)] if attr in fields else None


@lower_getattr_generic(Reference)
def _field(context: Any, builder: Any, typ: Reference, value: Any, attr: str) -> Any:
    index = typ.target.fields.index(attr)
    field = builder.load(cgutils.gep_inbounds(builder, value, 0, index))
    return imputils.impl_ret_borrowed(context, builder, typ.target.types[index], field)


def reference(value: Any) -> Any:
    """In a kernel, a reference to a named tuple that the kernel has made; elsewhere, the tuple.

    The reference is valid until the kernel returns. It does not own the arrays in the tuple, so
    something else must keep them alive, for instance the kernel's caller.
    """
    return value


@type_callable(reference)
def _type_of_reference(context: Any) -> Any:
    def typer(value: types.Type) -> Reference | None:
        return Reference(value) if isinstance(value, types.BaseNamedTuple) else None

    return typer


@lower_builtin(reference, types.BaseTuple)
def _reference(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return cgutils.alloca_once_value(builder, args[0])
