"""`python -m service` is the `tidepool` command."""

from service.cli import main

main()
