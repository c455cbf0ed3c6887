import numpy as np

from seg_pipeline.segmentation.objects.cores import cores


def test_touching_objects_have_cores_apart():
    labels = np.zeros((5, 10), dtype=np.int32)
    labels[:, :5], labels[:, 5:] = 1, 2  # the image's own border is no edge
    expected = np.zeros((5, 10), dtype=bool)
    assert cores(labels)[:, [0, 9]].all()
    assert not cores(labels)[:, [4, 5]].any()
    assert (cores(labels) & ~expected).sum() % 5 == 0


def test_an_object_that_is_all_edge_is_its_own_core():
    labels = np.array([[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0]], dtype=np.int32)
    assert cores(labels).tolist() == (labels > 0).tolist()


def test_no_object_has_no_core():
    assert not cores(np.zeros((2, 3), dtype=np.int32)).any()
