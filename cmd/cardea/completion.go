package main

import (
	"io"

	"github.com/alecthomas/kong"

	"github.com/cardea-auth/cardea/internal/completion"
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
	_, err := io.WriteString(sh.out, completion.Script(c.Shell, app.Model.Node))
	return err
}
