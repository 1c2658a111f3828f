"""A neuron's PyTorch step read as arithmetic on one neuron: the operations of a trial step are recorded as C++ statements."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from msat.backends.trees import changed, tensors
from msat.neurons import Population

ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
COMPARISONS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "eq": "==", "ne": "!="}
LOGIC = {
    "logical_and": "&",
    "bitwise_and": "&",
    "logical_or": "|",
    "bitwise_or": "|",
    "logical_xor": "^",
    "bitwise_xor": "^",
}
FUNCTIONS = {
    "neg": "-{}", "abs": "magnitude({})", "floor": "rounded_down({})", "trunc": "towards_zero({})", "round": "nearest({})",
    "exp": "exponential({})", "sigmoid": "sigmoid({})", "softplus": "soft_plus({})", "sqrt": "root({})",
    "relu": "greater_of({}, vec{{}})", "reciprocal": "1.f / {}",
}  # fmt: skip
SAME = {"clone", "detach", "alias", "lift_fresh"}
KINDS = {torch.float32: "vec", torch.bool: "ivec"}


class Unwritable(Exception):
    """A step does something that is not arithmetic on one neuron; the message says what."""


class Course(NamedTuple):
    """What one step does: C++ statements, and the numbers and parameters that they read by position."""

    statements: tuple[str, ...]
    numbers: tuple[float, ...]
    parameters: tuple[Tensor, ...]
    """Those that differ among neurons: broadcast over [1, ...]."""
    counted: bool
    """Whether the step says how many spikes an output is."""


class Recorder(TorchDispatchMode):
    """Writes down what happens to the neurons' values while a step runs on two inputs.

    Args:
        named: the C++ names of the step's inputs.
    """

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shape = next(iter(named.values())).shape
        self.names = {id(tensor): (name, "vec") for name, tensor in named.items()}
        self.statements: list[str] = []
        self.numbers: list[float] = []
        self.parameters: list[Tensor] = []
        self.kept: list[Tensor] = []  # so that no other tensor gets an id that is known

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        values = [*args, *kwargs.values()]
        values += [x for value in values if isinstance(value, list | tuple) for x in value]
        if any(id(value) in self.names for value in values):
            self.write(func, args, kwargs, result)
        return result

    def write(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Add the statement for one operation on the neurons' values."""
        name, overload = func.overloadpacket.__name__, str(func)
        if func.namespace != "aten" or func._schema.is_mutable or not isinstance(result, Tensor):
            raise Unwritable(overload)
        if name in SAME or (name == "_to_copy" and result.dtype == torch.float32):
            self.remember(result, self.value(args[0]), "vec")
            return
        if name in {"zeros_like", "new_zeros"} and result.dtype == torch.float32:
            self.remember(result, "vec{}", "vec")
            return
        if result.shape != self.shape or result.dtype not in KINDS:
            raise Unwritable(f"{overload} with a result of {result.dtype}, {tuple(result.shape)}")
        expression = self.expression(name, args, kwargs)
        if expression is None:
            raise Unwritable(overload)
        compares = name in COMPARISONS or name in LOGIC or name in {"logical_not", "bitwise_not"}
        if compares != (result.dtype == torch.bool):
            raise Unwritable(f"{overload} with a result of {result.dtype}")
        kind, variable = KINDS[result.dtype], f"a{len(self.statements)}"
        self.statements.append(f"const {kind} {variable} = {expression};")
        self.remember(result, variable, kind)

    def expression(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return the C++ for an operation of PyTorch's, None where there is none."""
        if name == "where" and not kwargs:
            return f"{self.condition(args[0])} ? {self.value(args[1])} : {self.value(args[2])}"
        if name in {"clamp", "clamp_min", "clamp_max"}:
            return self.clamped(name, args, kwargs)
        if kwargs or (name == "softplus" and args[1:]) or (name in ARITHMETIC and args[2:]):
            return None
        if name == "rsub":
            return None if args[2:] else f"{self.value(args[1])} - {self.value(args[0])}"
        if name in ARITHMETIC or name in COMPARISONS:
            sign = ARITHMETIC.get(name) or COMPARISONS[name]
            return f"{self.value(args[0])} {sign} {self.value(args[1])}"
        if name == "remainder":
            return f"remainder_of({self.value(args[0])}, {self.value(args[1])})"
        if name in LOGIC:
            return f"{self.condition(args[0])} {LOGIC[name]} {self.condition(args[1])}"
        if name in {"logical_not", "bitwise_not"}:
            return f"~{self.condition(args[0])}"
        if name in {"maximum", "minimum"}:
            return f"{'greater_of' if name == 'maximum' else 'lesser_of'}({self.value(args[0])}, {self.value(args[1])})"
        return FUNCTIONS[name].format(self.value(args[0])) if name in FUNCTIONS else None

    def clamped(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the C++ for a value held within one or two bounds."""
        bounds = (None, args[1]) if name == "clamp_max" else (*args[1:], None, None)[:2]
        low, high = kwargs.get("min", bounds[0]), kwargs.get("max", bounds[1])
        value = self.value(args[0])
        value = value if low is None else f"greater_of({value}, {self.value(low)})"
        return value if high is None else f"lesser_of({value}, {self.value(high)})"

    def remember(self, result: Tensor, name: str, kind: str) -> None:
        self.kept.append(result)
        self.names[id(result)] = name, kind

    def condition(self, value: Any) -> str:
        """Return the name of a comparison's result."""
        name, kind = self.names.get(id(value), ("", ""))
        if kind != "ivec":
            raise Unwritable("a condition that does not compare the neurons' values")
        return name

    def value(self, value: Any) -> str:
        """Return the C++ for an operand: a variable, a number of this step, or a parameter of each neuron."""
        if id(value) in self.names:
            name, kind = self.names[id(value)]
            return name if kind == "vec" else f"number_of({name})"
        if not isinstance(value, Tensor) or value.numel() == 1:
            self.numbers.append(float(value))
            return f"n{len(self.numbers) - 1}"
        if value.dtype != torch.float32:
            raise Unwritable(f"a parameter of {value.dtype}")
        if value.dim() == len(self.shape) and len(value) > 1:
            raise Unwritable("values that differ among inputs")
        self.parameters.append(value.clone())  # the step may change it afterwards
        return f"p{len(self.parameters) - 1}"


class Recording:
    """The courses of a neuron's steps, recorded one after the other on two inputs at rest or in a given state.

    Two, so that what belongs to an input and not to a neuron can be told by its shape.

    Args:
        population: the neuron.
        shape: one input's neurons.
        state: what it starts from, of two inputs; None: at rest.

    Raises:
        Unwritable: from here or from `course`, where the step cannot be written.
    """

    def __init__(self, population: Population, shape: tuple[int, ...], state: Any = None) -> None:
        if type(population).scan is not Population.scan:
            raise Unwritable("a neuron with a scan of its own")
        self.population, self.current = population, torch.zeros(2, *shape)
        begin = population.start(self.current, torch.arange(2)) if state is None else state
        self.state = changed(begin, self._each)
        self.places = self._places(self.state)
        self.begin = [x for x, place in zip(tensors(self.state), self.places, strict=True) if place is not None]
        self.courses: list[Course] = []

    def _each(self, value: Tensor) -> Tensor:
        """Return a state with a number for each neuron where it begins with one for all."""
        single = value.dtype == torch.float32 and value.numel() == 1
        return value.expand(self.current.shape) if single else value

    def _places(self, state: Any) -> list[int | None]:
        """Return which of the kernel's states each tensor is, None for the inputs' numbers; refuse whatever else it holds."""
        if not plain(state):
            raise Unwritable(f"a state of {type(state).__name__} that is no nested tuple of tensors and numbers")
        places: list[int | None] = []
        for value in tensors(state):
            if value.dtype == torch.float32 and value.shape == self.current.shape:
                places.append(sum(place is not None for place in places))
            elif value.dtype == torch.int64 and value.shape == self.current.shape[:1]:
                places.append(None)
            else:
                raise Unwritable(f"a state of {value.dtype}, {tuple(value.shape)}")
        return places

    def course(self, t: int) -> Course:
        """Return what the step after the first t does."""
        while len(self.courses) <= t:
            self.courses.append(self._next())
        return self.courses[t]

    def _next(self) -> Course:
        state = changed(self.state, torch.clone)  # the same tensor twice would be one variable
        before = tensors(state)
        own = {f"s{place}": x for place, x in zip(self.places, before, strict=True) if place is not None}
        recorder = Recorder({"x": self.current, **own})
        with recorder:
            emission, after = self.population.step(self.current, state)
        after = changed(after, self._each)
        if self._places(after) != self.places:
            raise Unwritable("a state whose parts change their kind")
        statements = [f"const vec output = {recorder.value(emission.output)};"]
        if emission.events is not None:
            statements.append(f"const vec events = {recorder.value(emission.events)};")
        for place, old, new in zip(self.places, before, tensors(after), strict=True):
            if place is not None and new is not old:
                statements.append(f"store(s{place}_at, {recorder.value(new)});")
        self.state = after
        numbers = recorder.numbers
        reads = [f"const vec n{k} = all(number[{k}]);" for k in range(len(numbers))]
        return Course(
            (*reads, *recorder.statements, *statements), tuple(numbers), tuple(recorder.parameters),
            emission.events is not None,
        )  # fmt: skip


def plain(state: Any) -> bool:
    """Return whether a state is made of tensors, numbers and names in nested tuples."""
    if isinstance(state, tuple):
        return all(plain(part) for part in state)
    return state is None or isinstance(state, Tensor | bool | int | float | str)
