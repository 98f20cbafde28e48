"""Options that several commands of training and evaluation have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option(help="Name of a shipped model or path of a .safetensors file.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the result here too.")]
SplitOption = Annotated[str, typer.Option(help="Split of the data.")]
BudgetsOption = Annotated[str, typer.Option(help="Comma-separated shares of the block units.")]

RunOption = Annotated[
    Path, typer.Option(help="Directory of the run; a run that is there already is continued.")
]
StepsOption = Annotated[int, typer.Option(help="Steps in all; a longer value prolongs a run.")]
CropOption = Annotated[str, typer.Option(help="HEIGHTxWIDTH of the crops, multiples of the model's stride.")]
ZoomOption = Annotated[str, typer.Option(help="MIN:MAX of the random zoom.")]
RateOption = Annotated[float, typer.Option("--lr", help="Peak learning rate (AdamW).")]
DistillationOption = Annotated[float, typer.Option(help="Weight of the teachers' answers in the loss.")]
FreezeOption = Annotated[
    list[str] | None, typer.Option(help="Prefix of parameters that stay as they are; may be repeated.")
]
TestOption = Annotated[
    list[str] | None, typer.Option(help="KIND:PATH to measure at the end (its test split); may be repeated.")
]
MixedPrecisionOption = Annotated[str, typer.Option(help="auto, fp32 or bf16 (mixed).")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads; 0 = one per core.")]
PauseOption = Annotated[
    int | None, typer.Option(help="Save and stop at this step; the run can be continued.")
]
