"""How the documentation page looks: one style sheet inside the page, no fonts and no scripts from anywhere."""

CSS = """
:root { --ink: #1b2430; --soft: #5c6b7a; --line: #dfe5ea; --paper: #ffffff; --shade: #f5f7f9; --link: #0b66a8; --get: #0b7a53;
  --post: #0b66a8; --delete: #b3261e; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa8b5; --line: #2d3842; --paper: #12181e; --shade: #1a222a;
  --link: #6db8ee; --get: #4cc38a; --post: #6db8ee; --delete: #f2877e; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 15px/1.55 system-ui, sans-serif; display: grid;
  grid-template-columns: 17rem minmax(0, 1fr); }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.5rem 1rem; border-right: 1px solid var(--line);
  background: var(--shade); font-size: 13px; }
nav h2 { font-size: 12px; text-transform: uppercase; letter-spacing: .06em; color: var(--soft); margin: 1.4rem 0 .3rem; }
nav a { display: block; padding: .15rem 0; color: inherit; text-decoration: none; }
nav a:hover { text-decoration: underline; }
main { max-width: 60rem; padding: 2rem 2.5rem 6rem; }
a { color: var(--link); }
h1 { margin: 0 0 .2rem; } h1 small { font-size: 1rem; font-weight: 400; color: var(--soft); }
section { border-top: 1px solid var(--line); margin-top: 2.2rem; padding-top: 1.2rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.2rem; margin: 1.2rem 0; }
article h3 { margin: 0 0 .3rem; font: 600 15px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
h4 { margin: 1.1rem 0 .3rem; font-size: 13px; text-transform: uppercase; letter-spacing: .05em; color: var(--soft); }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; text-transform: uppercase; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow: auto; margin: .4rem 0; }
summary { cursor: pointer; color: var(--link); font-size: 13px; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; } main { padding: 1.5rem 1rem 4rem; } }
"""
