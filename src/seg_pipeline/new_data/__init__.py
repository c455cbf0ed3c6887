"""A folder of data -> a ready environment: `python -m seg_pipeline.new_data FOLDER NAME`, or `make new-data`.

``scanning`` lists what lies in the folder, ``layouts`` finds which form it has, ``names`` what the file names say,
``classes`` what the masks hold; ``asking`` puts the questions that remain, ``writing`` writes ``conf/NAME/`` and
``checking`` runs data_processing on some of the images.
"""
