"""Many videos, handed out to whoever works: one process, several, shards of a run, actors of a cluster.

claims.py      who labels which video; one record per finished video
manifest.py    what a run was made with, and what became of each video
label.py       one video from frames to a finished folder
schedule.py    handing videos out to workers that may die
processes.py   workers as processes; ray_actors.py: as actors of a Ray cluster
shards.py      parts of a run, and the whole put together
budget.py      the videos against a memory budget
run.py         the whole of it: settings compared, videos labelled, the manifest written
"""
