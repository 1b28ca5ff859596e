"""How the pages look. Each page carries this sheet itself and may load nothing else: see `HEAD`.

The class names are those that Great Expectations' templates use; what they look like is our own.
"""

from __future__ import annotations

STYLE = """
:root { --line: #d9dde3; --dim: #5d6673; --soft: #f4f6f8; --good: #1b7f3b; --warn: #a15c00; --bad: #b3261e; --link: #1d5fa8 }
* { box-sizing: border-box }
body { font: 14px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1d232b; background: #fff;
  margin: 0 auto; max-width: 76rem; padding: 1.2rem 1.6rem 4rem }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
nav { color: var(--dim); margin-bottom: 1.2rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
h4, h5, h6 { margin: 0; font-size: 1rem } .h6, h6 { font-weight: 600 }
p { margin: .3rem 0 } .dim { color: var(--dim) } .number { text-align: right; font-variant-numeric: tabular-nums }
.scroll, .table-responsive { overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 .8rem }
td, th { border-bottom: 1px solid var(--line); padding: .35rem .7rem .35rem 0; text-align: left; vertical-align: top }
th { color: var(--dim); font-weight: 600; white-space: nowrap } thead[hidden] { display: none }
td { overflow-wrap: anywhere }
td.when, td.name { overflow-wrap: normal; white-space: nowrap; font-variant-numeric: tabular-nums }
.figures { font-size: 13px } .figures th { white-space: normal; vertical-align: bottom } .figures td { white-space: nowrap }
.figures td, .figures th { text-align: right; padding: .25rem 0 .25rem .6rem; overflow-wrap: normal }
.pairs { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: .4rem 0 1rem } .pairs div { color: var(--dim) }
.pairs b { color: CanvasText; font-variant-numeric: tabular-nums }
.chip { border-radius: .8em; color: #fff; font-size: .85em; font-weight: 600; padding: .1em .7em; white-space: nowrap }
.chip.passed { background: var(--good) } .chip.warning { background: var(--warn) } .chip.critical { background: var(--bad) }
ul { margin: .2rem 0; padding-left: 1.2rem }
/* Great Expectations' own blocks */
:root { color-scheme: light dark } hr { display: none } .row { display: block } .ge-section { margin-bottom: 1rem }
.alert { background: var(--soft); border-left: 4px solid var(--line); padding: .45rem .8rem }
.ge-section:first-of-type .alert { border-color: var(--link) } .ge-section .table td { border-bottom-color: #eceff2 }
.badge { background: #e7ebf0; border-radius: .3em; font-variant-numeric: tabular-nums; padding: 0 .4em }
.col-6 { max-width: 30rem } .card { border: 1px solid var(--line); border-radius: 4px; margin: .4rem 0; padding: .4rem .8rem }
.text-success { color: var(--good) } .text-danger { color: var(--bad) } .text-warning { color: var(--warn) }
.text-info { color: var(--link) } i.fas { font-style: normal; font-weight: 700 }
.fa-check-circle::before { content: "\\2714" } .fa-times::before { content: "\\2718" }
.fa-exclamation-triangle::before { content: "\\26A0" } .fa-question-circle::before { content: "?" }
.fa-comment::before { content: "\\270E" }
summary { color: var(--link); cursor: pointer; margin: .3rem 0 }
.ge-section td:first-child { white-space: nowrap; width: 5rem } .col-6 td:first-child, details td:first-child { width: 16rem }
details td:first-child { white-space: normal }
.cooltip > .top { display: none } .cooltip { border-bottom: 1px dotted var(--dim) }
pre, code { background: var(--soft); overflow-x: auto } pre { padding: .5rem }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a424d; --dim: #9aa5b3; --soft: #20262d; --good: #2f9e56; --warn: #b97a16; --bad: #d6554c; --link: #7db4f0 }
  body { background: #14181d; color: #e4e8ed } .badge { background: #2d353f } .ge-section .table td { border-color: #262d35 }
}
@media print { body { max-width: none } summary { display: none } }
"""

# The browser itself refuses whatever a page would load or run: nothing leaves for another host, and no value in a table
# can become a script.
HEAD = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    f"<style>{STYLE}</style>"
)
