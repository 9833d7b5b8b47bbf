"""A store over tables in Google's Firestore."""

from services.store.firestore.place import FirestorePlace as FirestorePlace
