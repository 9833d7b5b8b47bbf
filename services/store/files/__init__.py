"""A store over tables in a folder of JSON files."""

from services.store.files.place import FilesPlace as FilesPlace
