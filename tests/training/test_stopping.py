from sktvae._training.stopping import EarlyStopping


def follow(losses, n_iter_no_change=2, tol=0.0, slack=0.0):
    """Which losses have the weights to keep, and after how many it is over."""
    stopping, kept = EarlyStopping(n_iter_no_change, tol, slack), []
    for loss in losses:
        kept.append(stopping.update(loss))
        if stopping.should_stop:
            break
    return kept


def test_it_is_over_after_so_many_checks_without_an_improvement():
    assert follow([3, 2, 2, 1, 4, 5, 0]) == [True, True, False, True, False, False]


def test_a_loss_may_be_lowest_and_no_improvement():
    """Small steps down are the weights to keep, and use up the patience."""
    assert follow([3, 2.95, 2.92, 0], tol=0.1) == [True] * 3
    assert follow([3, 2.95, 2.8, 2.75], tol=0.1) == [True] * 4


def test_a_later_loss_within_the_slack_is_kept_and_uses_up_the_patience():
    assert follow([3, 2, 2.1, 2.3, 0], slack=0.2) == [True, True, True, False]
    # Within the slack of the lowest loss, not of the last that was kept.
    assert follow([3, 2, 2.15, 2.3, 2.15], n_iter_no_change=4, slack=0.2)[-2:] == [False, True]
