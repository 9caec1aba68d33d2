package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// helpWidth is the width of a terminal in columns.
const helpWidth = 80

// dress gives every command the same help, in 80 columns, and sslgate's own error messages
// for wrong command lines: what was typed, what may have been meant, and where to read on.
// All of these errors have exit code 2.
func dress(root *cobra.Command) {
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { _, _ = io.WriteString(c.OutOrStdout(), helpText(c)) })
	root.SetUsageFunc(func(c *cobra.Command) error {
		_, err := io.WriteString(c.OutOrStderr(), helpText(c))
		return err
	})
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCmd(root))
	walk(root, func(c *cobra.Command) {
		args := c.Args
		c.Args = func(c *cobra.Command, given []string) error {
			if args == nil || args(c, given) == nil {
				return nil
			}
			return argsError(c, args, given)
		}
	})
}

// walk calls f for a command and all below it.
func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

// usageError says where to read on.
func usageError(c *cobra.Command, format string, a ...any) error {
	return &exitError{code: 2, err: fmt.Errorf(format+"\n`%s --help` says more", append(a, c.CommandPath())...)}
}

// argsError is about arguments that a command does not take.
func argsError(c *cobra.Command, takes cobra.PositionalArgs, given []string) error {
	if c.HasAvailableSubCommands() && len(given) > 0 {
		return noCommand(c, given[0])
	}
	if takes(c, nil) != nil && len(given) == 0 {
		return usageError(c, "something is missing: %s", usageLine(c))
	}
	for n := len(given) - 1; n >= 0; n-- {
		if takes(c, given[:n]) == nil {
			return usageError(c, "%q is one argument too many: %s", given[n], usageLine(c))
		}
	}
	return usageError(c, "something is missing: %s", usageLine(c))
}

// noCommand is about a word that is no command.
func noCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(append(names, sub.Name()), sub.Aliases...)
		}
	}
	return usageError(c, "%s has no command %q%s", c.CommandPath(), word, fielderr.Suggest(word, names))
}

// flagError reports an unknown flag, or a flag with a wrong value.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown) && c.HasAvailableSubCommands() && c.Flags().NArg() > 0:
		return noCommand(c, c.Flags().Arg(0)) // the unknown command would have other flags
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			if len(short) == len(name) {
				return usageError(c, "unknown flag -%s%s", name, suggestFlag(c, name))
			}
			return usageError(c, "unknown flag -%s in -%s%s", name, short, suggestFlag(c, short))
		}
		return usageError(c, "unknown flag --%s%s", name, suggestFlag(c, name))
	case errors.As(err, &missing):
		value, _ := pflag.UnquoteUsage(missing.GetFlag())
		return usageError(c, "--%s wants a value, %s", missing.GetFlag().Name, value)
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		value, _ := pflag.UnquoteUsage(f)
		switch f.Value.Type() {
		case "bool":
			value = "is true or false"
		case "int":
			value = "wants a whole number"
		case "duration":
			value = "wants a duration such as 90s, 10m or 1h30m"
		default:
			value = "wants " + value
		}
		return usageError(c, "--%s %s, not %q", f.Name, value, invalid.GetValue())
	case errors.As(err, &syntax):
		return usageError(c, "%q is no flag", syntax.GetSpecifiedFlag())
	}
	return usageError(c, "%v", err)
}

// suggestFlag returns " (did you mean ...?)" if a flag is similar, with one dash or two.
func suggestFlag(c *cobra.Command, name string) string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return fielderr.Suggest("--"+name, names)
}

// usageLine returns the syntax of a command.
func usageLine(c *cobra.Command) string { return strings.TrimSuffix(c.UseLine(), " [flags]") }

// newHelpCmd is `sslgate help`.
func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		Args:  cobra.ArbitraryArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			c, rest := find(root, args)
			var names []string
			if len(rest) == 0 {
				for _, sub := range documented(c) {
					names = append(names, sub.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest := find(root, args)
			if len(rest) > 0 {
				return noCommand(c, rest[0])
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// find returns the command that the words name, and the words that name none.
func find(c *cobra.Command, words []string) (*cobra.Command, []string) {
	for len(words) > 0 {
		next := (*cobra.Command)(nil)
		for _, sub := range c.Commands() {
			if sub.Name() == words[0] || sub.HasAlias(words[0]) {
				next = sub
			}
		}
		if next == nil {
			break
		}
		c, words = next, words[1:]
	}
	return c, words
}

// helpText is what --help prints.
func helpText(c *cobra.Command) string {
	var b strings.Builder
	if c.Long != "" {
		b.WriteString(c.Long + "\n")
	} else {
		b.WriteString(strings.Join(wrap(c.Short+".", helpWidth), "\n") + "\n")
	}
	b.WriteString("\nUsage:\n")
	if c.Runnable() && (c.HasParent() || !c.HasAvailableSubCommands()) {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", c.CommandPath())
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	commandsText(&b, c)
	if f := c.LocalFlags(); f.HasAvailableFlags() {
		b.WriteString("\nFlags:\n" + f.FlagUsagesWrapped(helpWidth))
	}
	if f := c.InheritedFlags(); f.HasAvailableFlags() {
		b.WriteString("\nGlobal flags:\n" + f.FlagUsagesWrapped(helpWidth))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n`%s COMMAND --help` says more about one.\n", c.CommandPath())
	}
	return b.String()
}

// commandsText lists the commands below c by group.
func commandsText(b *strings.Builder, c *cobra.Command) {
	list := func(title, group string) {
		for _, sub := range c.Commands() {
			if sub.GroupID != group || !sub.IsAvailableCommand() {
				continue
			}
			if title != "" {
				fmt.Fprintf(b, "\n%s\n", title)
				title = ""
			}
			name := sub.Name()
			for _, line := range wrap(sub.Short, helpWidth-14) {
				fmt.Fprintf(b, "  %-12s%s\n", name, line)
				name = ""
			}
		}
	}
	for _, g := range c.Groups() {
		list(g.Title, g.ID)
	}
	title := "Commands:"
	if len(c.Groups()) > 0 {
		title = "More:"
	}
	list(title, "")
}
