"""The web app: one recording analysed and explained in a browser, on this machine alone.

page (widgets) -> service (sessions) -> analysis -> view (HTML) and download
"""
