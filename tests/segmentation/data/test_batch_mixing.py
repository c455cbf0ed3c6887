import pytest
import torch

from seg_pipeline.segmentation.data.batch_mixing import make_mixing


def batch():
    """Image b is all 60 * b, its truth all b: 3 images of 20 by 30."""
    which = torch.arange(3, dtype=torch.uint8)
    return (60 * which)[:, None, None, None].repeat(1, 2, 20, 30), which[:, None, None].repeat(1, 20, 30)


def test_cutmix_pastes_one_rectangle_of_the_previous_image():
    images, truth = batch()
    mix = make_mixing("cutmix", share=1, seed=3)
    shares = []
    for step in range(200):
        mixed, [(weight, hard)] = mix(images, truth, epoch=0, step=step)
        assert weight == 1
        assert (mixed.dtype, hard.dtype) == (torch.uint8, torch.uint8)
        assert torch.equal(mixed, 60 * hard[:, None].expand(-1, 2, -1, -1))  # image and truth from the same place
        assert set(hard[2].unique().tolist()) <= {1, 2}
        assert set(hard[0].unique().tolist()) <= {0, 2}  # the first meets the last
        changed = hard[1] == 0
        rows, columns = changed.any(1).sum(), changed.any(0).sum()
        assert changed.sum() == rows * columns  # a rectangle
        shares.append(changed.float().mean().item())
    assert 0.4 < sum(shares) / 200 < 0.6  # uniform area
    assert max(shares) > 0.9


def test_cutmix_supports_multilabel_truth():
    images, truth = batch()
    stacked = torch.stack([truth, 2 * truth], dim=1)
    _, [(_, hard)] = make_mixing("cutmix", share=1, seed=3)(images, stacked, epoch=0, step=1)
    assert torch.equal(hard[:, 1], 2 * hard[:, 0])


def test_mixup_blends_images_and_weighs_both_truths():
    images, truth = batch()
    mix = make_mixing("mixup", share=1, seed=3)
    for step in range(20):
        mixed, [(kept, mine), (given, other)] = mix(images, truth, epoch=4, step=step)
        assert kept + given == pytest.approx(1)
        assert mixed.dtype == torch.uint8
        assert mine[:, 0, 0].tolist() == [0, 1, 2]
        assert other[:, 0, 0].tolist() == [2, 0, 1]
        expected = [120 * given, 60 * kept, 120 * kept + 60 * given]
        assert mixed[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_depends_only_on_seed_epoch_and_step(name):
    images, truth = batch()

    def drawn(seed, epoch, step):
        torch.manual_seed(seed + epoch + step + torch.randint(9, ()).item())  # must not matter
        return make_mixing(name, share=1, seed=seed)(images, truth, epoch=epoch, step=step)[0]

    assert torch.equal(drawn(1, 2, 3), drawn(1, 2, 3))
    others = [drawn(2, 2, 3), drawn(1, 3, 3), drawn(1, 2, 4)]
    assert not any(torch.equal(drawn(1, 2, 3), other) for other in others)


def test_the_given_batch_is_not_modified():
    images, truth = batch()
    make_mixing("cutmix", share=1, seed=0)(images, truth, epoch=0, step=0)
    make_mixing("mixup", share=1, seed=0)(images, truth, epoch=0, step=0)
    assert torch.equal(images, batch()[0])
    assert torch.equal(truth, batch()[1])


def test_only_the_given_share_of_batches_is_mixed():
    images, truth = batch()
    mix = make_mixing("mixup", share=0.25, seed=0)
    mixed = [len(mix(images, truth, epoch=0, step=step)[1]) == 2 for step in range(400)]
    assert 70 < sum(mixed) < 130


def test_a_batch_of_one_is_not_mixed():
    images, truth = batch()
    mixed, [(weight, same)] = make_mixing("cutmix", share=1, seed=0)(images[:1], truth[:1], epoch=0, step=0)
    assert weight == 1
    assert torch.equal(mixed, images[:1])
    assert torch.equal(same, truth[:1])


def test_no_mixing_gives_none_and_an_unknown_name_lists_the_choices():
    assert make_mixing("none", share=0.5, seed=0) is None
    assert make_mixing("cutmix", share=0, seed=0) is None
    with pytest.raises(ValueError, match="'cutout' is unknown; expected one of none, mixup, cutmix"):
        make_mixing("cutout", share=0.5, seed=0)
