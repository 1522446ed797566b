"""The confirmed model as files that need none of this project, and how they are served."""
