"""Value types of options: plain Python types with their limits attached."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Limit: TypeAlias = Annotated[int, Meta(ge=-1)]  # -1 is unlimited
Seconds: TypeAlias = Annotated[int, Meta(ge=0)]
Interval: TypeAlias = Annotated[int, Meta(ge=-1)]  # seconds; 0 default pace or off, -1 never, as Nova says it
Ratio: TypeAlias = Annotated[float, Meta(ge=0.0)]
Names: TypeAlias = tuple[str, ...]
