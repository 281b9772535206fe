"""
C{python -m echofactory.report}: the results of runs, from their JSON.
"""

from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

if __name__ == "__main__":
    # Until there is something to report, Ctrl-C ends the process without a traceback.
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    from echofactory.cli.report import main

    main()
