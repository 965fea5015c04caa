"""The tests take version 1 where a user would take the newest model: it draws a picture in a seventh of the time."""

from glc_toolkit import defaults

defaults.MODEL = "glc-image-0.03@1"  # before anything reads it
