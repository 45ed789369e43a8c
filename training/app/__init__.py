"""The web app: one recording analysed and explained in a browser, on this machine alone.

page (widgets) -> base (sessions, turns) -> service, or in_time -> analysis -> view (HTML) and download
"""
