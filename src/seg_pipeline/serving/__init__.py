"""An exported model behind HTTP: an API and a page. Needs the extra `serve`, neither torch nor Kedro."""
