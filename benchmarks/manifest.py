"""How long reading a large index takes, and how much memory.

    python benchmarks/manifest.py [--wells 1536] [--sites 9] [--channels 5] [--write benchmarks/MANIFEST.md]

An index as Harmony V5 writes it, an entry of 34 lines a plane, in a folder of its own; read by a fresh process, of
whose memory the peak counts, the program itself and its libraries included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.plate import PLATE_SHAPES, plate_wells

AIM_S, AIM_MB = 10.0, 500.0
"""What 1536 wells of 9 sites in 5 channels may take."""
HEAD = """\
<?xml version="1.0" encoding="utf-8"?>
<EvaluationInputData Version="1" xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5">
  <User>bench</User>
  <InstrumentType>Phenix</InstrumentType>
  <Plates>
    <Plate>
      <PlateID>BENCH</PlateID>
      <MeasurementID>6f2adb32-6c4b-4583-b792-9aefb0aa3cf0</MeasurementID>
      <MeasurementStartTime>2024-01-01T10:18:52.2439831+01:00</MeasurementStartTime>
      <Name>BENCH</Name>
      <PlateTypeName>{wells} wells</PlateTypeName>
      <PlateRows>{rows}</PlateRows>
      <PlateColumns>{columns}</PlateColumns>
    </Plate>
  </Plates>
  <Images>
"""
IMAGE = """\
    <Image Version="1">
      <id>{row:02d}{column:02d}K1F{site}P1R{channel}</id>
      <State>Ok</State>
      <URL>r{row:02d}c{column:02d}f{site:02d}p01-ch{channel}sk1fk1fl1.tiff</URL>
      <Row>{row}</Row>
      <Col>{column}</Col>
      <FieldID>{site}</FieldID>
      <PlaneID>1</PlaneID>
      <TimepointID>0</TimepointID>
      <ChannelID>{channel}</ChannelID>
      <FlimID>1</FlimID>
      <ChannelName>Stain {channel}</ChannelName>
      <ImageType>Signal</ImageType>
      <AcquisitionType>NonConfocal</AcquisitionType>
      <IlluminationType>Epifluorescence</IlluminationType>
      <ChannelType>Fluorescence</ChannelType>
      <ImageResolutionX Unit="m">5.9797608095676170E-07</ImageResolutionX>
      <ImageResolutionY Unit="m">5.9797608095676170E-07</ImageResolutionY>
      <ImageSizeX>1080</ImageSizeX>
      <ImageSizeY>1080</ImageSizeY>
      <BinningX>2</BinningX>
      <BinningY>2</BinningY>
      <MaxIntensity>65535</MaxIntensity>
      <CameraType>AndorZylaCam</CameraType>
      <PositionX Unit="m">-0.000645814</PositionX>
      <PositionY Unit="m">0.000645814</PositionY>
      <PositionZ Unit="m">2E-05</PositionZ>
      <AbsPositionZ Unit="m">0.137510493</AbsPositionZ>
      <MeasurementTimeOffset Unit="s">0</MeasurementTimeOffset>
      <AbsTime>2024-01-01T10:19:26.58+01:00</AbsTime>
      <MainExcitationWavelength Unit="nm">475</MainExcitationWavelength>
      <MainEmissionWavelength Unit="nm">525</MainEmissionWavelength>
      <ObjectiveMagnification Unit="">20</ObjectiveMagnification>
      <ObjectiveNA Unit="">0.4</ObjectiveNA>
      <ExposureTime Unit="s">0.06</ExposureTime>
      <OrientationMatrix>[[1.006463,0.003011,0,-35.6],[0.002440,-1.006450,0,67.3],[0,0,1.33,-15.125]]</OrientationMatrix>
    </Image>
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What reading took. peak_mb: of the whole process, None where the system does not tell; before_mb: until then."""

    planes: int
    file_mb: float
    seconds: float
    before_mb: float | None
    peak_mb: float | None

    @property
    def is_within_aims(self) -> bool:
        """Whether both aims are met."""
        return self.seconds <= AIM_S and (self.peak_mb or 0.0) <= AIM_MB


def write_index(path: Path, wells: int, sites: int, channels: int) -> None:
    """An index of every plane of a plate."""
    rows, columns = PLATE_SHAPES[wells]
    with path.open("w", encoding="utf-8") as stream:
        stream.write(HEAD.format(wells=wells, rows=rows, columns=columns))
        for well, site, channel in product(plate_wells(wells), range(1, sites + 1), range(1, channels + 1)):
            stream.write(IMAGE.format(row=well.row, column=well.column, site=site, channel=channel))
        stream.write("  </Images>\n</EvaluationInputData>\n")


def read_here(path: Path) -> Figures:
    """Read it in this process."""
    before_mb, began = peak_mb(), time.perf_counter()
    manifest = Harmony().read_metadata(path)
    seconds = time.perf_counter() - began
    planes = sum(len(steps) for well in manifest.planes.values() for steps in well.values()) if manifest else 0
    return Figures(planes, path.stat().st_size / 1e6, seconds, before_mb, peak_mb())


def peak_mb() -> float | None:
    """The most memory that this process has had so far, in MB; None on Windows."""
    try:
        import resource  # noqa: PLC0415 (not on every system)
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(wells: int, sites: int, channels: int) -> Figures:
    """Write an index and read it in a fresh process. Raises SystemExit where not every plane is found."""
    with tempfile.TemporaryDirectory(prefix="hcs-bench-") as folder:
        path = Path(folder) / "Index.idx.xml"
        write_index(path, wells, sites, channels)
        done = subprocess.run(
            [sys.executable, __file__, "--read", path], capture_output=True, text=True, check=False, env=os.environ
        )
    if done.returncode != 0:
        raise SystemExit(f"reading ended with {done.returncode}:\n{done.stderr[-4000:]}")
    figures = Figures(**json.loads(done.stdout))
    if figures.planes != wells * sites * channels:
        raise SystemExit(f"{figures.planes} planes were read of {wells * sites * channels}: it is no figure")
    return figures


def report(figures: Figures, wells: int, sites: int, channels: int) -> str:
    """The figures as a page."""
    return f"""# Manifest

Reading Harmony's index of {figures.planes} planes ({wells} wells of {sites} sites in {channels} channels,
{figures.file_mb:.0f} MB) in a fresh process.

| what | figure | aim |
|---|---|---|
| time | {figures.seconds:.2f} s | {AIM_S:g} s |
| peak memory of the process | {_mb(figures.peak_mb)} | {AIM_MB:g} MB |
| of it before reading | {_mb(figures.before_mb)} | |

{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}.

    python benchmarks/manifest.py --wells {wells} --sites {sites} --channels {channels}
"""


def _mb(figure: float | None) -> str:
    return "not told" if figure is None else f"{figure:.0f} MB"


def main() -> int:
    """Measure, print, and write if asked; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wells", type=int, default=1536, choices=sorted(PLATE_SHAPES))
    parser.add_argument("--sites", type=int, default=9, help="sites a well")
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--write", type=Path, help="also write the page here")
    parser.add_argument("--read", type=Path, help="only read this index, and print the figures as JSON")
    given = parser.parse_args()
    if given.read:
        figures = read_here(given.read)
        print(json.dumps({name: getattr(figures, name) for name in Figures.__dataclass_fields__}))
        return 0
    figures = measure(given.wells, given.sites, given.channels)
    text = report(figures, given.wells, given.sites, given.channels)
    print(text, end="")
    if given.write:
        given.write.write_text(text, "utf-8")
    return 0 if figures.is_within_aims else 1


if __name__ == "__main__":
    sys.exit(main())
