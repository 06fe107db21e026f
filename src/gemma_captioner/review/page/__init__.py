"""The user interface of the review page. Only this package imports NiceGUI."""
