"""Files of tasks on a device: inputs come before a task runs, outputs leave after it.

========  ==========================================================================================
cache     contents that are kept for the next task, and outputs until the main has them
staging   a task's folder on the disk: inputs put into it, outputs taken from it; all blocking
fetching  contents from the main into the cache, each once however many ask
uploads   outputs from the cache to the main, until it has them
folders   the executor's keeper of folders: puts the rooms above together
========  ==========================================================================================

A task that brings and leaves no files costs nothing here: HTTP is loaded when the first file is on its way.
"""
