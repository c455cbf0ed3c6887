"""Peak memory of `kedro run --pipeline data_processing` on ten times UW-Madison's images (a) and 2 GB (b), and what an
image adds to it from a quarter of them to all (a) and 1 KB (b). A data set of that size fits on an ordinary laptop.

What grows with a data set are its tables, so that only they are real: 385,344 file names in the layout of the data,
1,156,032 rows of run lengths as long as the phantom's, every node, every table on disk. The files are links to a few
images, and what is measured of each is made up. BENCH_SHRINK=100 tries the script out; its figure means nothing then.
"""

import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import side_by_side

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 144
SERIES = max(32, 10 * 38_496 // FRAMES // int(os.environ.get("BENCH_SHRINK", "1")))
NAME = "slice_{frame:04d}_266_266_1.50_1.50.png"
LIMIT_MIB = 2 * 1024
LIMIT_KB = 1


def main() -> int:
    (fewer, small), (images, peak) = measure(SERIES // 4), measure(SERIES)
    note = f"{images:,} images, libraries included"
    each = (peak - small) * 2**20 / 1000 / (images - fewer)
    return side_by_side.report(
        side_by_side.judge("preprocessing_memory_10x_uw_madison", [peak], [LIMIT_MIB], limit=1, unit="MiB", note=note),
        side_by_side.judge(
            "preprocessing_memory_per_image",
            [each],
            [LIMIT_KB],
            limit=1,
            unit="KB",
            note=f"{fewer:,} to {images:,} images",
        ),
    )


def measure(series: int) -> tuple[int, float]:
    """Images in the manifest of so many drawn series, and the peak of the run that makes it, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        raw, out = Path(name, "raw"), Path(name, "out")
        make(raw, series)
        params = f"raw_root={raw},data_root={out},data_processing.num_workers=1,tracking.enabled=false"
        command = ["kedro", "run", "--env", "uw_madison", "--pipeline", "data_processing", "--params", params]
        code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
os.chdir({str(ROOT)!r})
sys.argv = {command!r}
from preprocessing_memory import make_measuring_up
from kedro.framework.cli.cli import main
make_measuring_up()
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""
        peak = side_by_side.peak_mib(code)
        return len(pd.read_parquet(out / "05_model_input" / "manifest.parquet", columns=["image_id"])), peak


def make(raw: Path, number: int) -> None:
    """A table of all images, and their files, as links: of a file there can be 65,000."""
    from seg_pipeline.segmentation import phantom

    phantom.write_phantom(
        raw / "drawn",
        num_cases=2,
        days_per_case=1,
        frames_per_series=(FRAMES, FRAMES),
        size=266,
        other_size=(266, 266),
        dirty=False,
    )
    drawn = sorted((raw / "drawn" / "train").rglob("*.png"))
    table = pd.read_csv(raw / "drawn" / "train.csv", dtype=str).pivot(
        index="id", columns="class", values="segmentation"
    )
    names, masks = list(table), table.fillna("").to_numpy().tolist()
    with (raw / "train.csv").open("w") as file:
        file.write("id,class,segmentation\n")
        for series in range(number):
            case, day = divmod(series, 3)
            folder = raw / "train" / f"case{case}" / f"case{case}_day{day}" / "scans"
            folder.mkdir(parents=True)
            for frame in range(1, FRAMES + 1):
                index = series * FRAMES + frame
                os.link(drawn[index % len(drawn)], folder / NAME.format(frame=frame))
                for name, mask in zip(names, masks[index % len(masks)], strict=True):
                    file.write(f"case{case}_day{day}_slice_{frame:04d},{name},{mask}\n")


def make_measuring_up() -> None:
    """Of each image what the first one shows, with hash and thumbnail of its own and the masks of its row."""
    import random

    from seg_pipeline.segmentation.manifest import measure_table
    from seg_pipeline.segmentation.manifest.measure_image import Outcome, measure_image

    first: dict[str, object] = {}
    draw = random.Random(0)

    def made_up(row: dict, reader: object) -> Outcome:
        if not first:
            first.update(measure_image(row, reader).features)
        masks = {f"mask_{name}": next(iter(row[f"mask_{name}"]), "") for name in reader.class_values}
        areas = {f"area_{name}": sum(map(int, masks[f"mask_{name}"].split()[1::2])) for name in reader.class_values}
        shares = {f"share_{name}": areas[f"area_{name}"] / 266**2 for name in reader.class_values}
        own = {"content_hash": f"{draw.getrandbits(256):064x}", "thumbnail": f"{draw.getrandbits(256):064x}"}
        return Outcome({**first, "height": 266, "width": 266, **own, **masks, **areas, **shares}, [])

    measure_table.measure_image = made_up


if __name__ == "__main__":
    sys.exit(main())
