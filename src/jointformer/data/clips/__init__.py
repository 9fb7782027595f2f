"""Training clips: moving pictures with cut-outs of stills pasted over them, and how frames are augmented."""
