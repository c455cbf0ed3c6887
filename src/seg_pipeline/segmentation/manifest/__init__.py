"""The manifest, one row per image: clean the metadata, join it with files, measure, check and split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "combine": ["combine_manifests"],
        "cross_checks": ["check_images", "overlap_matrix"],
        "exclusions": ["COLUMNS", "exclude_images"],
        "files": ["with_reading"],
        "findings": ["reconcile", "collect", "counts", "refuse_dropped"],
        "measure_image": ["MaskReader"],
        "measure_table": ["join_measurements", "measure_rows", "remove_parts"],
        "metadata": ["INDEXED", "clean_annotations", "pivot_annotations"],
        "split_checks": ["check_leaks", "fewer_folds", "missing_classes", "split_table", "with_splits"],
        "splits": ["assign_splits"],
        "table": ["count_classes", "data_hash", "late_files", "merge_files", "spread", "with_pseudo_labels"],
    },
)
