"""Write an environment for your own data: `python -m seg_pipeline.new_data FOLDER NAME`, or `make new-data`.

``scanning`` lists the files in the folder, ``layouts`` recognises the layout, ``names`` reads the file names,
``classes`` reads the masks, ``splits`` keeps a given split, ``asking`` asks what remains open, ``writing`` writes
``conf/NAME/`` and ``checking`` runs data_processing on some of the images.
"""
