package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints a script with which a shell completes commands and flags.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help returns what the help shows below the usage.
func (*completionCommand) Help() string {
	return `bash, for this session, or for every session:

	source <(cardea completion bash)
	cardea completion bash > ~/.local/share/bash-completion/completions/cardea

zsh, in ~/.zshrc after compinit:

	source <(cardea completion zsh)

fish:

	cardea completion fish > ~/.config/fish/completions/cardea.fish`
}

func (c *completionCommand) Run(sh *shell, app *kong.Kong) error {
	_, err := io.WriteString(sh.out, completionScript(c.Shell, app.Model.Node))
	return err
}

// completionScript returns the script that completes the command cardea in shell, which is "bash", "zsh" or "fish". It
// contains the whole tree of commands, whose root is given, so that completing runs no program.
func completionScript(shell string, root *kong.Node) string {
	places := placesOf(root)
	switch shell {
	case "bash":
		return bashCompletion(places)
	case "zsh": // it emulates the completion of bash, and reads the same script
		return "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(places)
	}
	return fishCompletion(places)
}

// place is a command, and what may follow it.
type place struct {
	path  string       // the words after cardea: "client create"
	nouns []*kong.Node // commands that may follow
	flags []*kong.Flag // its own flags and those that every command takes
	words []string     // the values of its argument, if they are listed
}

// placesOf returns the places of node and of all commands below it, node first.
func placesOf(node *kong.Node) []place {
	p := place{path: strings.Join(pathOf(node), " ")}
	for _, child := range node.Children {
		if !child.Hidden {
			p.nouns = append(p.nouns, child)
		}
	}
	for _, group := range node.AllFlags(true) {
		p.flags = append(p.flags, group...)
	}
	for _, argument := range node.Positional {
		p.words = append(p.words, choices(argument)...)
	}
	places := []place{p}
	for _, child := range p.nouns {
		places = append(places, placesOf(child)...)
	}
	return places
}

// pathOf returns the names of the commands from the root to node.
func pathOf(node *kong.Node) []string {
	if node.Parent == nil {
		return nil
	}
	return append(pathOf(node.Parent), node.Name)
}

// choices returns the values that an argument or a flag may have, or nil if they are not listed.
func choices(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(strings.Split(v.Enum, ","), func(s string) bool { return s == "" })
}

// spellings returns the forms in which a flag may be written.
func spellings(f *kong.Flag) []string {
	all := []string{"--" + f.Name}
	if f.Short != 0 {
		all = append(all, "-"+string(f.Short))
	}
	return all
}

// bashCompletion returns a script that follows the words of the line down the tree and offers what may come next. After
// a flag that takes a value, it offers the choices of the flag, or file names.
func bashCompletion(places []place) string {
	var below, offers, values, takers []string
	for _, p := range places {
		var words []string
		for _, n := range p.nouns {
			words = append(words, n.Name)
			below = append(below, fmt.Sprintf("%q", strings.TrimSpace(p.path+" "+n.Name)))
		}
		words = append(words, p.words...)
		for _, f := range p.flags {
			words = append(words, spellings(f)...)
			if f.IsBool() {
				continue
			}
			for _, s := range spellings(f) {
				key := fmt.Sprintf("%q", p.path+" "+s)
				takers = append(takers, key)
				if c := choices(f.Value); len(c) > 0 {
					values = append(values, fmt.Sprintf("\t%s) COMPREPLY=($(compgen -W %q -- \"$word\")); return ;;",
						key, strings.Join(c, " ")))
				}
			}
		}
		offers = append(offers, fmt.Sprintf("\t%q) offered=%q ;;", p.path, strings.Join(words, " ")))
	}
	return fmt.Sprintf(`# Completion of cardea for bash, printed by: cardea completion bash
_cardea() {
	local word="${COMP_WORDS[COMP_CWORD]}" path="" flag="" offered="" i next
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		next="${path:+$path }${COMP_WORDS[i]}"
		if [[ -n "$flag" ]]; then
			[[ "${COMP_WORDS[i]}" == "=" ]] || flag=""
			continue
		fi
		case "$next" in
		%s) path="$next" ;;
		esac
		case "$path ${COMP_WORDS[i]}" in
		%s) flag="${COMP_WORDS[i]}" ;;
		esac
	done
	[[ "$word" != "=" ]] || word=""
	if [[ -n "$flag" ]]; then
		case "$path $flag" in
%s
		esac
		COMPREPLY=($(compgen -f -- "$word"))
		return
	fi
	case "$path" in
%s
	esac
	COMPREPLY=($(compgen -W "$offered" -- "$word"))
}
complete -F _cardea cardea
`, strings.Join(below, " | "), strings.Join(takers, " | "), strings.Join(values, "\n"), strings.Join(offers, "\n"))
}

// fishCompletion returns a script with the completions of every place.
func fishCompletion(places []place) string {
	var b strings.Builder
	b.WriteString("# Completion of cardea for fish, printed by: cardea completion fish\ncomplete -c cardea -f\n")
	for _, p := range places {
		at := "__fish_use_subcommand"
		if p.path != "" {
			var seen, unseen []string
			for word := range strings.FieldsSeq(p.path) {
				seen = append(seen, "__fish_seen_subcommand_from "+word)
			}
			for _, n := range p.nouns {
				unseen = append(unseen, n.Name)
			}
			at = strings.Join(seen, "; and ")
			if len(unseen) > 0 {
				at += "; and not __fish_seen_subcommand_from " + strings.Join(unseen, " ")
			}
		}
		for _, n := range p.nouns {
			fmt.Fprintf(&b, "complete -c cardea -n %s -a %s -d %s\n", fishQuoted(at), n.Name, fishQuoted(n.Help))
		}
		for _, word := range p.words {
			fmt.Fprintf(&b, "complete -c cardea -n %s -a %s\n", fishQuoted(at), word)
		}
		for _, f := range p.flags {
			line := fmt.Sprintf("complete -c cardea -n %s -l %s", fishQuoted(at), f.Name)
			if f.Short != 0 {
				line += " -s " + string(f.Short)
			}
			switch values := choices(f.Value); {
			case f.IsBool():
			case len(values) > 0:
				line += " -x -a " + fishQuoted(strings.Join(values, " "))
			default:
				line += " -r -F"
			}
			fmt.Fprintf(&b, "%s -d %s\n", line, fishQuoted(f.Help))
		}
	}
	return b.String()
}

func fishQuoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
