"""The whole of data_processing on a data set in an S3 bucket gives what it gives on local files."""

import os

import pandas as pd
import pytest

from seg_pipeline.segmentation.phantom import write_phantom

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "do-not-log", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A drawn data set in tmp_path/raw and at s3://raw-data/phantom, on a server of this process."""
    s3fs = pytest.importorskip("s3fs", reason="needs the extra [s3]")
    server = pytest.importorskip("moto.server", reason="needs moto[server]").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(name, value)
    write_phantom(
        tmp_path / "raw", seed=17, num_cases=6, days_per_case=1, frames_per_series=(6, 8), size=64, other_size=(64, 72)
    )
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.mkdir("raw-data")
    store.put(str(tmp_path / "raw"), "raw-data/phantom", recursive=True)
    yield store
    server.stop()


@pytest.mark.slow
@pytest.mark.skipif("CLUSTER" not in os.environ, reason="starts an S3 server; CLUSTER=1 asks for it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_data_set_in_a_bucket_gives_the_same_tables(bucket, in_clone, tmp_path):
    clone, outputs = in_clone.copy(tmp_path / "clone"), {}
    bucket.rm("raw-data/phantom/train/case1/case1_day0/scans/slice_0001_64_64_1.50_1.50.png")
    for name, root in (("local", tmp_path / "raw"), ("s3", "s3://raw-data/phantom")):
        out = tmp_path / name
        params = f"raw_root={root},data_root={out},data_processing.num_workers=2,tracking.enabled=false"
        command = ["kedro", "run", "--env", "smoke", "--pipeline", "data_processing", "--params", params]
        done = in_clone.run(command, clone)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "do-not-log" not in said
        assert "AKIATEST" not in said
        outputs[name] = [
            pd.read_parquet(out / file) for file in ("05_model_input/manifest.parquet", "08_reporting/findings.parquet")
        ]
    (ours, found), (theirs, known) = outputs["s3"], outputs["local"]
    assert ours["path"].str.startswith("s3://raw-data/phantom/train/case").all()
    kept = theirs[theirs["image_id"].isin(ours["image_id"])]
    assert len(kept) == len(theirs) - 1 == len(ours)
    columns = [name for name in ours if name not in ("path", "split", "fold")]
    pd.testing.assert_frame_equal(ours[columns].reset_index(drop=True), kept[columns].reset_index(drop=True))
    new = found[~found["image_id"].isin(known["image_id"])]
    assert new["rule"].tolist() == ["row_without_file"]
